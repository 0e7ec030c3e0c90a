"""Where it runs: the template, the packages, the deployment, and the embedded local stack."""
