package message

import (
	"errors"

	"mittente/internal/mail"
)

func parseMailboxes(body []byte, most int) ([]mail.Address, error) {
	return nil, errors.New("not yet")
}
