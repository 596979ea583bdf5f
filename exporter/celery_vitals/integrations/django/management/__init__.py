"""The package that Django expects to contain `commands`."""
