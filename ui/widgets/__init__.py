"""What paints lines on a terminal."""
