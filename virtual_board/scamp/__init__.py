"""The monitor's duties (SC&MP): commands from the host, messages to and from cores, applications, tags."""
