"""The HTTP face: the hosted endpoint's protocol."""
