"""What an experiment says: its files and sections, and the videos and clips these stand for."""
