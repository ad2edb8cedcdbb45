// Package observe is the edge through which the outside sees the provisioner:
// events that are said once, metrics, and the HTTP endpoints for health.
package observe
