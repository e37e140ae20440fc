"""The contract between the floors: signature, bundle, store, settings, errors. Small and pure."""
