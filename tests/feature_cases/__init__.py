"""What each feature flag of a kernel changes: a case for each, seen from outside."""
