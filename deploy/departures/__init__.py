"""The reference, departing: one simulation that can adopt each difference of a target from a Network by itself."""
