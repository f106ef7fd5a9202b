"""Requests as OpenTelemetry traces: which ones, what their spans show, and where they go.

A request's spans are made when its answer has been written, from the times that the service measures anyway. A request
that is not traced costs one comparison. OpenTelemetry is imported only if an endpoint is set.
"""
