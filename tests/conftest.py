"""Fixtures that every test may ask for come from the plugin, `tq.testing.plugin`."""
