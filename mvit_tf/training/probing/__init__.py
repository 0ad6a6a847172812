"""The linear probe: features of the videos, and a head that is fitted to them."""
