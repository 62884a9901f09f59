"""What moving bytes costs, and what failures cost a pull: relays, striping, failing holders."""
