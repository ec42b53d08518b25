"""One edit on several devices at once: guidance branches apart, then the tokens of a branch apart."""
