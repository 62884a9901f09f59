"""What a pull does next: a pure state machine and its rules."""
