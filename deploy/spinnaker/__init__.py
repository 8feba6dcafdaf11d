"""SpiNNaker targets: boards, virtual boards, and the software twin of what they compute."""
