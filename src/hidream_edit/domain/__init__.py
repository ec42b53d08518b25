"""The words and the rules of editing; standard library only."""
