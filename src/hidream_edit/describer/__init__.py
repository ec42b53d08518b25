"""Optional: a vision-language model sharpens the instruction and describes the result."""
