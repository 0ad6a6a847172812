"""The training itself: its steps and epochs, what is done around them, and going back."""
