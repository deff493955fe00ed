"""What a run is: schemas, `experiments.yaml`, and the plan of an experiment."""
