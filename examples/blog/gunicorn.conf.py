"""Gunicorn's settings: a few workers with threads, and an end that lets requests finish."""

bind = "0.0.0.0:8000"
workers = 2
worker_class = "gthread"
threads = 4
keepalive = 75
# Workers prove that they live through a file; on a disk that could stall them.
worker_tmp_dir = "/dev/shm"
# After SIGTERM no request is taken any more, and those that run have this long; less than the pod's own grace period.
graceful_timeout = 20
accesslog = "-"
errorlog = "-"
