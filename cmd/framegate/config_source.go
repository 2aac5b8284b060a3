package main

import (
	"errors"
	"fmt"
	"os"
)

// A configSource is where the configuration of a gateway comes from, at its start
// and at each reload: the flags of the start stand.
type configSource struct {
	file     string   // of --config, or the default
	optional bool     // it may be absent: nobody has named it
	read     bool     // it was there
	policies []string // of --policy, instead of policy.files; nil: none
	shadow   []string // of --shadow
}

// load reads the configuration. A file that is absent is the default one, but not
// if it was there before: a gateway does not go back to defaults because a file
// was lost.
func (s *configSource) load() (*config, error) {
	c, err := loadConfig(s.file)
	switch {
	case err == nil:
		s.read = true
	case errors.Is(err, os.ErrNotExist) && s.optional && !s.read:
		c = defaultConfig()
	case errors.Is(err, os.ErrNotExist) && s.optional:
		return nil, usage(fmt.Errorf("%w, and was there before: an empty file stands for the defaults", err))
	default:
		return nil, usage(err)
	}
	if s.policies != nil {
		c.Policy.Files = s.policies
	}
	c.Policy.Shadow = s.shadow
	return c, nil
}
