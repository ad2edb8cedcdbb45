// Package migration is the rule about in-tree plugins that a CSI driver took over:
// which they are, and what their StorageClasses and PersistentVolumes mean to the
// driver. The translation itself is that of Kubernetes (k8s.io/csi-translation-lib),
// so that whoever attaches and mounts a volume reads the same into its PV.
package migration
