"""The peripherals of a chip: one module each, headed by its registers, with a compiled read and write function."""
