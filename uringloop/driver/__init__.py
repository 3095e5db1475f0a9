"""Everything between the loop and the kernel: commands down, events up."""
