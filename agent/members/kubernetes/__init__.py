"""The membership in a Kubernetes cluster: the agents' own EndpointSlices, and this node's own Node.

    client       one request to the API server, bounded; the only importer of the package ``kubernetes``
    following    list or read, then watch from there; what to do when either fails
    pacing       how long to wait before the next request (pure)
    slices       EndpointSlices to agents (pure)
    departures   agents that vanish together are kept for a while (pure)
    node         this node's labels
    membership   puts these together

Sources: Kubernetes "API concepts" (efficient detection of changes, bookmarks, 410 Gone); the API reference of
discovery.k8s.io/v1; client-go's reflector. docs/decisions/0027 has the load on the API server.
"""
