"""The OCI specifications as pure values: digests, references, ranges, manifests, errors."""
