"""What commands read: files that users name, and the registries of the packages, without importing them."""
