module github.com/csi-clone-provisioner/csi-clone-provisioner/hack/inventory

go 1.26.0

require (
	github.com/CycloneDX/cyclonedx-go v0.12.0
	github.com/google/licensecheck v0.3.1
)
