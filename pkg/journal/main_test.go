package journal_test

import (
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/goroutines"
)

// TestMain fails if the tests leave goroutines behind.
func TestMain(m *testing.M) { goroutines.Main(m) }
