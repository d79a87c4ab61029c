"""The faces that users meet: `TaskHandler`, its handles, `connect`, `SyncClient`, `RoutedQueue`.

This room joins the others and owns no truth of its own: what it tells comes from a backend, what it does goes there.
"""
