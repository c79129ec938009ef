"""What makes and checks a release; `make dist` and the release workflow use it."""
