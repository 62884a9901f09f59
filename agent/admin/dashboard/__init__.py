"""The page of the admin port: files without a build step, served as they are.

The files hold no secret and say nothing of the node. All that the page shows it asks from the API, with the
rights of who looks at it.
"""
