"""The input files, and the pictures in them."""
