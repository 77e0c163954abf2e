package supervisor

import (
	"gophd/internal/config"
	"gophd/internal/logging"
)

// Check says what is wrong with a config that was loaded, beyond what config itself can know, without
// any side effect: it asks the rooms that will have to live with it.
func Check(c *config.Config) error {
	l, err := logOptions(Options{Config: c})
	if err != nil {
		return err
	}
	if err := logging.Check(l); err != nil {
		return err
	}
	_, err = worldOf(c.Jobs[0])
	return err
}
