"""Many runs: what is left to do, and the engines that do it."""
