"""`mvit benchmark`: this project beside other implementations, in time and memory."""
