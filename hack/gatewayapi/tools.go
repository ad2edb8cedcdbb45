//go:build tools

// Package gatewayapi pins the Gateway API, from which tests take the manifest of
// the ReferenceGrant CRD. Nothing is compiled from it; the import is of the
// smallest package there. It is a module of its own so that its newer versions
// do not change what the control plane is built from.
package gatewayapi

import _ "sigs.k8s.io/gateway-api/pkg/consts"
