// Package chaos lets everything go wrong at once, at random, for a while: claims
// come and go, provisioners are killed, stopped and overlap, the driver hangs, lies
// and is restarted, so is the API server, and users meddle. Then peace comes, and
// the books must be right: no volume lost, no finalizer left, no claim stuck, no
// wrong contents.
//
// What happens is drawn beforehand from a seed (script_test.go), which is printed;
// SEED=n plays the same script again. When the processes get to run, nobody can
// repeat. CHAOS_TIME says for how long; actions.log, which is kept with the other
// logs if the test fails, says what was done when.
//
// The package has a cluster of its own: it restarts the API server.
package chaos

import (
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

func TestMain(m *testing.M) { kit.Main(m) }
