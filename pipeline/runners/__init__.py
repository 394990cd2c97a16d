"""Where a pipeline runs: on this machine, on Airflow, on Kubeflow or Vertex AI."""
