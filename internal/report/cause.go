package report

import "mittente/internal/mail"

// cause is why a recipient has not got the message, as far as a person can do
// something about it.
type cause int

const (
	causeOther cause = iota
	causeNoMailbox
	causeNoDomain
	causeFull
	causeClosed
	causeTooLarge
	causeRefused
	causeContent
	causeAlphabet
	causeLoop
	causeUnreachable
	causeBusy
)

// causeOf reads a status (RFC 3463 §3). Servers differ in the code they choose;
// the causes are coarse for it.
func causeOf(r Recipient) cause {
	o := r.Outcome
	if o.Code == 0 && o.Action == mail.Deferred {
		return unreachable(o.Status)
	}
	switch o.Status.Subject {
	case 1:
		return ofAddress(o.Status.Detail)
	case 2:
		return ofMailbox(o.Status.Detail)
	case 3:
		if o.Status.Detail == 4 {
			return causeTooLarge
		}
	case 4:
		return ofNetwork(o)
	case 6:
		if o.Status.Detail == 7 || o.Status.Detail >= 9 {
			return causeAlphabet // RFC 6531 §3.5
		}
		return causeContent
	case 7:
		return causeRefused
	}
	if o.Code == 552 {
		return causeTooLarge
	}
	if o.Code/100 == 4 {
		return causeBusy
	}
	return causeOther
}

// ofAddress is RFC 3463 §3.2, and RFC 7505 §4.
func ofAddress(detail int) cause {
	switch detail {
	case 2, 10:
		return causeNoDomain
	case 7, 8:
		return causeRefused
	}
	return causeNoMailbox
}

// ofMailbox is RFC 3463 §3.3.
func ofMailbox(detail int) cause {
	switch detail {
	case 1:
		return causeClosed
	case 2:
		return causeFull
	case 3:
		return causeTooLarge
	}
	return causeOther
}

// ofNetwork is RFC 3463 §3.5.
func ofNetwork(o mail.Outcome) cause {
	switch {
	case o.Status.Detail == 6:
		return causeLoop
	case o.Code == 0:
		return unreachable(o.Status)
	case o.Code/100 == 4:
		return causeBusy
	}
	return causeOther
}

// unreachable is what no server has answered.
func unreachable(s mail.Status) cause {
	if s.Subject == 7 {
		return causeRefused
	}
	return causeUnreachable
}

// words are what is said of a cause: why, and what to do.
type words struct{ why, step string }

func (c cause) english() words {
	switch c {
	case causeNoMailbox:
		return words{"The other server says that this address does not exist.", "Check how it is written; if it is right, ask the recipient another way."}
	case causeNoDomain:
		return words{"The domain of this address takes no mail.", "Check what stands after the @: often it is a slip of the keyboard."}
	case causeFull:
		return words{"The recipient's mailbox is full.", "Tell the recipient another way, and send the message again later."}
	case causeClosed:
		return words{"The other server says that this mailbox is not in use.", "Ask the recipient another way for an address that is."}
	case causeTooLarge:
		return words{"The message is larger than the other server takes.", "Send it again with smaller attachments, or with a link to them."}
	case causeRefused:
		return words{"The other server refuses the message by its own rules.", "Its answer says why; the postmaster there can change it."}
	case causeContent:
		return words{"The other server does not take a message of this form.", "Its answer says what it does not like; send it in another form."}
	case causeAlphabet:
		return words{"The other server does not take addresses with letters outside ASCII.", "Ask the recipient for an address in plain letters."}
	case causeLoop:
		return words{"The message would go in a circle: the recipient's servers pass it on to one another.", "The postmaster there can mend it."}
	case causeUnreachable:
		return words{"The other server could not be reached.", "Check what stands after the @; if it is right, send the message again later."}
	case causeBusy:
		return words{"The other server asked us to come back later, each time.", "Send the message again later, or ask the recipient another way."}
	case causeOther:
	}
	return words{"The other server did not take the message.", "Its answer says why."}
}

func (c cause) italian() words {
	switch c {
	case causeNoMailbox:
		return words{"Il server di destinazione dice che questo indirizzo non esiste.", "Controlla com'è scritto; se è giusto, chiedi al destinatario per un'altra via."}
	case causeNoDomain:
		return words{"Il dominio di questo indirizzo non riceve posta.", "Controlla che cosa c'è dopo la @: spesso è un errore di battitura."}
	case causeFull:
		return words{"La casella del destinatario è piena.", "Avvisa il destinatario per un'altra via e rispedisci il messaggio più tardi."}
	case causeClosed:
		return words{"Il server di destinazione dice che questa casella non è in uso.", "Chiedi al destinatario, per un'altra via, un indirizzo che lo sia."}
	case causeTooLarge:
		return words{"Il messaggio è più grande di quanto il server di destinazione accetta.", "Rispediscilo con allegati più piccoli, o con un link per scaricarli."}
	case causeRefused:
		return words{"Il server di destinazione rifiuta il messaggio per le sue regole.", "La sua risposta dice perché; può cambiarlo il postmaster di quel server."}
	case causeContent:
		return words{"Il server di destinazione non accetta un messaggio in questa forma.", "La sua risposta dice che cosa non va; rispediscilo in un'altra forma."}
	case causeAlphabet:
		return words{"Il server di destinazione non accetta indirizzi con lettere fuori dall'ASCII.", "Chiedi al destinatario un indirizzo scritto con lettere semplici."}
	case causeLoop:
		return words{"Il messaggio girerebbe in tondo: i server del destinatario se lo passano l'un l'altro.", "Può rimediare il postmaster di quei server."}
	case causeUnreachable:
		return words{"Il server di destinazione non è raggiungibile.", "Controlla che cosa c'è dopo la @; se è giusto, rispedisci il messaggio più tardi."}
	case causeBusy:
		return words{"Il server di destinazione ha chiesto ogni volta di ripassare più tardi.", "Rispedisci il messaggio più tardi, o chiedi al destinatario per un'altra via."}
	case causeOther:
	}
	return words{"Il server di destinazione non ha accettato il messaggio.", "La sua risposta dice perché."}
}
