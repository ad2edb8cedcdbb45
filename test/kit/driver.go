package kit

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/driver"
)

// lateWork is how long calls that were made to hang may take to end once
// nothing holds them any more.
const lateWork = 10 * time.Minute

// startDriver serves the test's own driver. Its volumes are in the test's folder.
func (e *Env) startDriver(config demodriver.Config) {
	e.t.Helper()
	config.Name = e.DriverName
	config.Dir = filepath.Join(e.dir, "volumes")
	server, err := driver.Start(config)
	if err != nil {
		e.t.Fatalf("starting driver %q: %v", e.DriverName, err)
	}
	e.Driver, e.Faults = server, server.Faults
}

// calmDriver takes all faults away and waits for calls that finish late.
func (e *Env) calmDriver() error {
	ctx, cancel := context.WithTimeout(e.Ctx, lateWork)
	defer cancel()
	for _, server := range e.drivers() {
		server.Faults.Reset()
		if err := server.Faults.WaitIdle(ctx); err != nil {
			return fmt.Errorf("calming driver %q: %w", e.DriverName, err)
		}
	}
	return nil
}
