"""What moving bytes costs, and what trouble costs a pull: relays, striping, holders that fail."""
