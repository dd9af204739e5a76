"""Grafana's dashboards and Prometheus' rules, built from the table of metrics (`make dashboards`)."""
