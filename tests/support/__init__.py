"""What tests use: networks, snapshots, and references written without the library."""
