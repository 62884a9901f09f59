"""Who else has a digest, or knows a tag."""
