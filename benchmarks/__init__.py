"""How fast it is, and against which limit of the machine: scripts that start what they need."""
