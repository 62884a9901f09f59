"""What it costs that agents prove themselves to each other, and what replacing the key costs under load."""
