package consent

// The languages.
const (
	italian = "it"
	english = "en"
)

// words is what a letter says, of one kind in one language. In it {who} stands
// for the account, {what} for the address or the domain, {to} for whom it is
// written to, {host} for this relay, {asker} for who asks, {until} for the end.
type words struct {
	Subject   string
	Preview   string // what lists of mail show after the subject
	Kicker    string
	Head      string // has {what} once
	Intro     string
	Button    string
	NoteBold  string
	Note      string
	Dated     string // label of the date
	Until     string // label of the end
	UntilText string // after the end, or instead of it
	Permits   string
	Plus      string
	Minus     string
	Later     string
	DoubtBold string
	Doubt     string
	Other     string // in the other language
}

// frame is what letters and pages of a language share.
type frame struct {
	For       string // under the name of the house
	Asker     string
	Behalf    string
	Account   string // before the number
	Operator  string // what who asks is, where that is somebody of the house
	Somebody  string // the same, where nobody is named
	Copy      string
	Footer    string
	Replies   string // after the footer, where answers go to somebody
	OtherLang string
	OtherRead string // in the other language
}

func frameOf(lang string) frame {
	if lang == italian {
		return frame{
			For: "per {who}", Asker: "Chi lo chiede", Behalf: "Per conto di", Account: "account", Operator: "gestore di {host}", Somebody: "chi gestisce {host}",
			Copy:    "Il pulsante non funziona? Copia questo indirizzo nel browser:",
			Footer:  "Email automatica di {host}. Nessuna immagine, nessun tracciamento.",
			Replies: "Le risposte vanno a {asker}.", OtherLang: english, OtherRead: "Read this in English",
		}
	}
	return frame{
		For: "for {who}", Asker: "Asked by", Behalf: "On behalf of", Account: "account", Operator: "operator of {host}", Somebody: "the operator of {host}",
		Copy:    "The button does not work? Copy this address into your browser:",
		Footer:  "Automatic mail of {host}. No images, no tracking.",
		Replies: "Replies go to {asker}.", OtherLang: italian, OtherRead: "Leggi in italiano",
	}
}

// about is what a letter or a page is about.
type about struct {
	domain    bool // else an address
	confirmed bool // else it asks
}

func wordsOf(lang string, a about) words {
	switch {
	case lang == italian && a.confirmed:
		return confermato(a)
	case lang == italian:
		return domanda(a)
	case a.confirmed:
		return confirmation(a)
	}
	return question(a)
}

func domanda(a about) words {
	w := words{
		Subject: "{who} vuole inviare da {what}: confermi?",
		Preview: "Decidi tu: aprire questa email o il link non conferma nulla. Il link vale fino al {until}.",
		Kicker:  "Conferma del mittente", Head: "{who} vuole inviare da {what}: confermi?",
		Intro:  "Ti scriviamo perché sei tu a ricevere la posta di questo indirizzo. Finché non confermi, {who} non può usarlo come mittente.",
		Button: "Vai alla pagina di conferma", NoteBold: "Aprire la pagina non conferma nulla:",
		Note:  "lì c’è un pulsante, e conta solo quello. Non serve accedere.",
		Dated: "Chiesto il", Until: "Vale fino al", UntilText: ", cioè 48 ore",
		Permits: "Che cosa permetti",
		Plus:    "Le applicazioni di {who} potranno scrivere con il tuo indirizzo come mittente.",
		Minus:   "Non potranno leggere la tua posta né conoscere la tua password. Gli altri indirizzi del tuo dominio restano esclusi.",
		Later:   "Puoi revocare quando vuoi: dopo la conferma ricevi un’email con il link per farlo.", DoubtBold: "Non riconosci la richiesta? Ignora questa email.",
		Doubt: "Il link scade da solo e il tuo indirizzo resta com’era. Nella pagina c’è anche «Non autorizzo»: dopo, per 90 giorni, da questo account non arrivano altre email di verifica a questo indirizzo.",
		Other: "{who} asks to send from your address.",
	}
	if a.domain {
		w.Subject, w.Head = "{who} vuole inviare da tutto {what}: confermi?", "{who} vuole inviare da tutto {what}: confermi?"
		w.Kicker = "Conferma del dominio"
		w.Intro = "Ti scriviamo perché {to} risponde per questo dominio. Finché non confermi, {who} non può usarlo per inviare."
		w.Plus = "Le applicazioni di {who} potranno scrivere con qualunque indirizzo di {what} come mittente."
		w.Minus = "Non potranno leggere la posta del dominio né cambiarne i DNS."
		w.Doubt = "Il link scade da solo e il dominio resta com’era. Nella pagina c’è anche «Non autorizzo»: dopo, per 90 giorni, da questo account non arrivano altre email di verifica a questo indirizzo."
		w.Other = "{who} asks to send from your domain."
	}
	return w
}

func confermato(a about) words {
	w := words{
		Subject: "Hai confermato: {who} può inviare da {what}",
		Preview: "Conserva questa email: ha il link per revocare, che non scade.",
		Kicker:  "Mittente confermato", Head: "{who} può inviare da {what}",
		Intro:  "Hai confermato: da adesso le applicazioni di {who} possono scrivere con il tuo indirizzo come mittente. Non devi fare altro.",
		Button: "Vai alla pagina per revocare", NoteBold: "Aprire la pagina non revoca nulla:",
		Note:  "lì c’è un pulsante, e conta solo quello. Non serve accedere.",
		Dated: "Confermato il", Until: "Vale", UntilText: "finché non revochi",
		Permits: "Che cosa hai permesso",
		Plus:    "Le applicazioni di {who} possono scrivere con il tuo indirizzo come mittente.",
		Minus:   "Non possono leggere la tua posta né conoscere la tua password. Gli altri indirizzi del tuo dominio restano esclusi.",
		Later:   "Conserva questa email: il link per revocare non scade.", DoubtBold: "Non sei stato tu a confermare? Revoca subito.",
		Doubt: "Basta il pulsante nella pagina. Poi cambia la password della tua casella: qualcun altro ha letto la nostra prima email.",
		Other: "You agreed that {who} sends from your address.",
	}
	if a.domain {
		w.Subject, w.Head, w.Kicker = "Hai confermato: {who} può inviare da tutto {what}", "{who} può inviare da tutto {what}", "Dominio confermato"
		w.Intro = "Hai confermato: da adesso le applicazioni di {who} possono scrivere con gli indirizzi di questo dominio. Non devi fare altro."
		w.Plus = "Le applicazioni di {who} possono scrivere con qualunque indirizzo di {what} come mittente."
		w.Minus = "Non possono leggere la posta del dominio né cambiarne i DNS."
		w.Other = "You agreed that {who} sends from your domain."
	}
	return w
}

func question(a about) words {
	w := words{
		Subject: "{who} asks to send from {what}: do you agree?",
		Preview: "It is up to you: opening this mail or the link confirms nothing. The link can be used until {until}.",
		Kicker:  "Confirmation of a sender", Head: "{who} asks to send from {what}: do you agree?",
		Intro:  "We write to you because you receive the mail of this address. Until you agree, {who} can’t use it as a sender.",
		Button: "Go to the confirmation page", NoteBold: "Opening the page confirms nothing:",
		Note:  "there is a button, and only that counts. You need not sign in.",
		Dated: "Asked on", Until: "Open until", UntilText: ", that is 48 hours",
		Permits: "What you allow",
		Plus:    "{who}’s applications may write with your address as the sender.",
		Minus:   "They can’t read your mail or learn your password. The other addresses of your domain are left out.",
		Later:   "You can take it back whenever you like: after you agree you get a mail with the link for that.", DoubtBold: "You don’t know what this is about? Ignore this mail.",
		Doubt: "The link expires by itself and your address stays as it was. The page also has “I do not authorise”: after that no verification mail of this account comes to this address for 90 days.",
		Other: "{who} vuole inviare dal tuo indirizzo.",
	}
	if a.domain {
		w.Subject, w.Head = "{who} asks to send from all of {what}: do you agree?", "{who} asks to send from all of {what}: do you agree?"
		w.Kicker = "Confirmation of a domain"
		w.Intro = "We write to you because {to} speaks for this domain. Until you agree, {who} can’t use it to send."
		w.Plus = "{who}’s applications may write with any address at {what} as the sender."
		w.Minus = "They can’t read the domain’s mail or change its DNS."
		w.Doubt = "The link expires by itself and the domain stays as it was. The page also has “I do not authorise”: after that no verification mail of this account comes to this address for 90 days."
		w.Other = "{who} vuole inviare dal tuo dominio."
	}
	return w
}

func confirmation(a about) words {
	w := words{
		Subject: "You agreed: {who} may send from {what}",
		Preview: "Keep this mail: it has the link that takes it back, which does not expire.",
		Kicker:  "Sender confirmed", Head: "{who} may send from {what}",
		Intro:  "You agreed: from now on {who}’s applications may write with your address as the sender. There is nothing else for you to do.",
		Button: "Go to the page to take it back", NoteBold: "Opening the page changes nothing:",
		Note:  "there is a button, and only that counts. You need not sign in.",
		Dated: "Confirmed on", Until: "Holds", UntilText: "until you take it back",
		Permits: "What you have allowed",
		Plus:    "{who}’s applications may write with your address as the sender.",
		Minus:   "They can’t read your mail or learn your password. The other addresses of your domain are left out.",
		Later:   "Keep this mail: the link that takes it back does not expire.", DoubtBold: "It was not you who agreed? Take it back at once.",
		Doubt: "The button on the page does it. Then change the password of your mailbox: somebody else has read our first mail.",
		Other: "Hai confermato che {who} può inviare dal tuo indirizzo.",
	}
	if a.domain {
		w.Subject, w.Head, w.Kicker = "You agreed: {who} may send from all of {what}", "{who} may send from all of {what}", "Domain confirmed"
		w.Intro = "You agreed: from now on {who}’s applications may write with the addresses of this domain. There is nothing else for you to do."
		w.Plus = "{who}’s applications may write with any address at {what} as the sender."
		w.Minus = "They can’t read the domain’s mail or change its DNS."
		w.Other = "Hai confermato che {who} può inviare dal tuo dominio."
	}
	return w
}
