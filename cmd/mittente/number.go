package main

import "errors"

// number is the value of a flag that counts from 1.
type number int64

// Validate is called for what was given, not for a default or for none.
func (n number) Validate() error {
	if n < 1 {
		return errors.New("want 1 or more")
	}
	return nil
}
