"""Screens and the parts they are made of: pure functions from a picture to lines, and the keys around them."""
