"""What is generated from the API's models: CRDs, the chart's templates, the reference (`make crds`)."""
