package consent

// says is what the page says in one language. Besides what stands for itself in
// words it has {until} and {decided}, times; {rest}, a day; and {asker}.
type says struct {
	Languages string
	Kicker    string

	AskTitle, AskHead, AskSays, AskHint, AskFoot string
	Yes, No                                      string
	Until                                        string

	OKTitle, OKSays             string
	NoTitle, NoSays             string
	RevokeTitle, RevokeHead     string
	RevokeSays, Revoke          string
	RevokeHint, Dated           string
	RevokedTitle, RevokedSays   string
	UsedTitle, UsedYes, UsedNo  string
	UsedRevoked, UsedHint       string
	UsedGone                    string
	ExpiredTitle, ExpiredSays   string
	ExpiredHint                 string
	ReplacedTitle, ReplacedSays string
	UnknownTitle, UnknownSays   string
	UnknownHint                 string
	TroubleTitle, TroubleSays   string
	ManyTitle, ManySays         string

	Foot  string
	Other string // in the other language
	Read  string // in the other language
}

func saysOf(lang string, a about) says {
	if lang == italian {
		return dice(a)
	}
	return itSays(a)
}

func dice(a about) says { //nolint:dupl // the other language
	s := says{
		Languages: "Lingua", Kicker: "Conferma del mittente",
		AskTitle: "Conferma il mittente", AskHead: "{who} può inviare da {what}?",
		AskSays: "Confermando, le applicazioni di {who} potranno scrivere usando il tuo indirizzo come mittente. Puoi revocare quando vuoi.",
		AskHint: "Aprire questa pagina non conferma nulla: conta solo il pulsante. Se non autorizzi, per 90 giorni questo account non può inviare altre email di verifica a questo indirizzo.",
		AskFoot: "Non conosci {who}? Non autorizzare, o chiudi la pagina: il link scade da solo.",
		Yes:     "Confermo", No: "Non autorizzo",
		Until:   "Vale fino al",
		OKTitle: "Confermato", OKSays: "{who} può inviare da {what}. Ti arriva un’email con il link per revocare quando vuoi.",
		NoTitle: "Non autorizzato", NoSays: "{who} non può inviare da {what}. Fino al {rest} (90 giorni) questo account non può inviare altre email di verifica a questo indirizzo.",
		RevokeTitle: "Revoca il mittente", RevokeHead: "Togliere a {who} il permesso di inviare da {what}?",
		RevokeSays: "Revocando, le applicazioni di {who} non potranno più scrivere usando il tuo indirizzo come mittente. Vale da subito; la posta già accettata parte comunque.",
		Revoke:     "Revoco", RevokeHint: "Aprire questa pagina non revoca nulla: conta solo il pulsante.", Dated: "Confermato il",
		RevokedTitle: "Revocato", RevokedSays: "{who} non può più inviare da {what}. Non serve fare altro.",
		UsedTitle: "Questo link è già stato usato", UsedYes: "{what} è stato confermato il {decided}. Non serve fare altro.",
		UsedNo:       "Il {decided} hai risposto che {who} non può inviare da {what}. Non serve fare altro.",
		UsedRevoked:  "Il permesso per {what} è stato revocato il {decided}. Non serve fare altro.",
		UsedHint:     "Vuoi revocare? Usa il link nell’email che hai ricevuto dopo la conferma.",
		UsedGone:     "{who} adesso non può inviare da {what}: il permesso è già stato tolto.",
		ExpiredTitle: "Questo link è scaduto", ExpiredSays: "Valeva fino al {until}. Nulla è stato confermato: con questo link nessuno può inviare da {what}.",
		ExpiredHint:   "Se vuoi confermare, chiedi a {asker} di inviarti un link nuovo. Altrimenti chiudi la pagina.",
		ReplacedTitle: "C’è un’email più recente", ReplacedSays: "Per {what} ti abbiamo scritto di nuovo: vale il link dell’ultima email, questo non più. Nulla è stato confermato.",
		UnknownTitle: "Questo link non esiste", UnknownSays: "Forse l’indirizzo è stato copiato a metà, o la richiesta è stata ritirata. Nulla è stato confermato.",
		UnknownHint:  "Apri di nuovo il link dall’email: deve finire con le 40 lettere e cifre dopo {path}.",
		TroubleTitle: "Adesso non riusciamo a rispondere", TroubleSays: "Nulla è cambiato. Riprova tra un minuto: il link resta valido.",
		ManyTitle: "Troppe richieste", ManySays: "Da questa rete ne arrivano troppe. Nulla è cambiato. Aspetta un minuto e ricarica la pagina.",
		Other: "{who} asks to send from your address.", Read: "Read this page in English",
	}
	if a.domain {
		s.Kicker, s.AskTitle, s.AskHead = "Conferma del dominio", "Conferma il dominio", "{who} può inviare da tutto {what}?"
		s.AskSays = "Confermando, le applicazioni di {who} potranno scrivere con qualunque indirizzo di {what} come mittente. Puoi revocare quando vuoi."
		s.RevokeTitle = "Revoca il dominio"
		s.RevokeSays = "Revocando, le applicazioni di {who} non potranno più scrivere con gli indirizzi di {what}. Vale da subito; la posta già accettata parte comunque."
		s.Other = "{who} asks to send from your domain."
	}
	return s
}

func itSays(a about) says { //nolint:dupl // the other language
	s := says{
		Languages: "Language", Kicker: "Confirmation of a sender",
		AskTitle: "Confirm the sender", AskHead: "May {who} send from {what}?",
		AskSays: "If you agree, {who}’s applications may write with your address as the sender. You can take it back whenever you like.",
		AskHint: "Opening this page confirms nothing: only the button counts. If you do not authorise it, this account may not send other verification mail to this address for 90 days.",
		AskFoot: "You don’t know {who}? Do not authorise it, or close the page: the link expires by itself.",
		Yes:     "I agree", No: "I do not authorise",
		Until:   "Open until",
		OKTitle: "Confirmed", OKSays: "{who} may send from {what}. You get a mail with the link that takes it back whenever you like.",
		NoTitle: "Not authorised", NoSays: "{who} may not send from {what}. Until {rest} (90 days) this account may not send other verification mail to this address.",
		RevokeTitle: "Take back the sender", RevokeHead: "Shall {who} no longer send from {what}?",
		RevokeSays: "If you take it back, {who}’s applications may no longer write with your address as the sender. It holds at once; mail already accepted still leaves.",
		Revoke:     "I take it back", RevokeHint: "Opening this page changes nothing: only the button counts.", Dated: "Confirmed on",
		RevokedTitle: "Taken back", RevokedSays: "{who} may no longer send from {what}. There is nothing else for you to do.",
		UsedTitle: "This link has been used", UsedYes: "{what} was confirmed on {decided}. There is nothing else for you to do.",
		UsedNo:       "On {decided} you answered that {who} may not send from {what}. There is nothing else for you to do.",
		UsedRevoked:  "The permission for {what} was taken back on {decided}. There is nothing else for you to do.",
		UsedHint:     "Do you want to take it back? Use the link in the mail that you got after you agreed.",
		UsedGone:     "{who} may not send from {what} now: the permission has been taken away already.",
		ExpiredTitle: "This link has expired", ExpiredSays: "It was open until {until}. Nothing has been confirmed: by this link nobody may send from {what}.",
		ExpiredHint:   "If you want to agree, ask {asker} to send you a new link. Otherwise close the page.",
		ReplacedTitle: "There is a newer mail", ReplacedSays: "We have written to you about {what} again: the link of the last mail counts, this one no longer does. Nothing has been confirmed.",
		UnknownTitle: "There is no such link", UnknownSays: "Maybe the address was copied in part, or what it asked has been withdrawn. Nothing has been confirmed.",
		UnknownHint:  "Open the link from the mail again: it has to end in the 40 letters and digits after {path}.",
		TroubleTitle: "We can’t answer now", TroubleSays: "Nothing has changed. Try again in a minute: the link stays valid.",
		ManyTitle: "Too many requests", ManySays: "Too many come from this network. Nothing has changed. Wait a minute and reload the page.",
		Other: "{who} vuole inviare dal tuo indirizzo.", Read: "Leggi questa pagina in italiano",
	}
	if a.domain {
		s.Kicker, s.AskTitle, s.AskHead = "Confirmation of a domain", "Confirm the domain", "May {who} send from all of {what}?"
		s.AskSays = "If you agree, {who}’s applications may write with any address at {what} as the sender. You can take it back whenever you like."
		s.RevokeTitle = "Take back the domain"
		s.RevokeSays = "If you take it back, {who}’s applications may no longer write with addresses at {what}. It holds at once; mail already accepted still leaves."
		s.Other = "{who} vuole inviare dal tuo dominio."
	}
	return s
}
