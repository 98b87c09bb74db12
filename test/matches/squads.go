package matches

import "time"

// epoch is the first kick-off.
var epoch = time.Date(2026, 6, 11, 19, 0, 0, 0, time.UTC)

// fixtures are the keys of the feed. The first three are on three different partitions of a topic that has three.
var fixtures = [...]string{
	"bra-arg", "eng-ned", "fra-ger", "por-esp", "bra-ger", "arg-fra", "esp-eng", "ned-por",
	"bra-fra", "arg-eng", "ger-ned", "esp-bra", "por-arg", "fra-eng", "ned-bra", "ger-por",
}

var squads = map[string][]string{
	"bra": {"Alisson", "Marquinhos", "Militão", "Danilo", "Casemiro", "Guimarães", "Paquetá", "Rodrygo", "Raphinha", "Vinícius Júnior", "Neymar"},
	"arg": {"E. Martínez", "Molina", "Romero", "Otamendi", "Tagliafico", "De Paul", "Fernández", "Mac Allister", "Messi", "J. Álvarez", "L. Martínez"},
	"fra": {"Maignan", "Koundé", "Upamecano", "Saliba", "T. Hernández", "Tchouaméni", "Rabiot", "Griezmann", "Dembélé", "Thuram", "Mbappé"},
	"ger": {"ter Stegen", "Kimmich", "Rüdiger", "Tah", "Raum", "Groß", "Andrich", "Musiala", "Wirtz", "Sané", "Havertz"},
	"esp": {"Simón", "Carvajal", "Le Normand", "Laporte", "Cucurella", "Rodri", "Pedri", "Olmo", "Yamal", "Morata", "N. Williams"},
	"eng": {"Pickford", "Walker", "Stones", "Guéhi", "Trippier", "Rice", "Mainoo", "Bellingham", "Saka", "Foden", "Kane"},
	"ned": {"Verbruggen", "Dumfries", "de Vrij", "van Dijk", "Aké", "Schouten", "Reijnders", "Simons", "Malen", "Depay", "Gakpo"},
	"por": {"D. Costa", "Cancelo", "R. Dias", "Pepe", "N. Mendes", "Palhinha", "Vitinha", "B. Fernandes", "B. Silva", "Ronaldo", "R. Leão"},
}

var (
	details   = []string{"review", "substitution", "celebration", "free_kick", "offside", "block", "clearance", "save"}
	bodyParts = []string{"left foot", "right foot", "head", "other"}
	cards     = []string{"yellow", "yellow", "yellow", "red"}
)
