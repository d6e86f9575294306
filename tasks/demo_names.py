"""People, places, companies and products that the demo's texts name.

Data alone; companies and products are made up. Every pool keeps values back that no
training row shows.
"""

from t5tune.tasks.demo_grammar import Pool

FIRST_NAMES = Pool.of(
  """Ada, Adam, Agnes, Aisha, Alan, Alba, Amir, Amy, Ana, Anton, Astrid, Beatrix,
  Ben, Bruno, Carla, Carlos, Chloe, Clara, Daniel, Daria, David, Diego, Dora,
  Edith, Elena, Elif, Emil, Emma, Enzo, Erik, Eva, Farid, Felix, Fiona, Frank,
  Gabriel, Gita, Greta, Hana, Hannah, Harun, Hugo, Ida, Igor, Ines, Iris, Ivan,
  Jack, Jana, Jin, Jonas, Julia, Karim, Kate, Klara, Kofi, Lars, Laura, Lena, Leo,
  Lily, Linda, Luca, Lucia, Maja, Marco, Maria, Marta, Max, Mei, Mila, Mina, Mona,
  Nadia, Nils, Nina, Nora, Olga, Oscar, Otto, Paula, Pavel, Pedro, Petra, Rafael,
  Rania, Ravi, Rosa, Ruth, Sam, Sara, Selma, Simon, Sofia, Stefan, Tara, Tom, Tomas,
  Vera, Victor, Wei, Yara, Yusuf, Zoe""",
  """Alma, Boris, Celia, Dario, Elsa, Gustav, Helga, Ilya, Joana, Kenji, Levi,
  Malik, Naomi, Omar, Priya, Renata, Samir, Tessa, Ursula, Viola""",
)

LAST_NAMES = Pool.of(
  """Adler, Alvarez, Andersen, Baker, Becker, Bell, Berg, Bianchi, Brown, Castro,
  Chen, Clark, Cohen, Costa, Cruz, Dahl, Diaz, Dubois, Evans, Ferrari, Fischer,
  Fonseca, Garcia, Gomez, Haas, Hall, Hansen, Hill, Horvat, Ito, Jansen, Jensen,
  Kaya, Keller, Khan, Kim, Klein, Kovacs, Lambert, Larsen, Lee, Lopez, Marino,
  Martin, Mendes, Meyer, Miller, Moreau, Murphy, Nagy, Novak, Olsen, Ortiz, Park,
  Patel, Pereira, Petrov, Popov, Ramos, Reyes, Ricci, Rossi, Santos, Sato, Schmidt,
  Silva, Singh, Smith, Suzuki, Tanaka, Torres, Varga, Vega, Walker, Weber, Wood,
  Wright, Young, Zeller""",
  """Abbott, Bergman, Carvalho, Duarte, Eriksen, Fuentes, Grimaldi, Hoffman,
  Ivanov, Kowalski, Lindholm, Mancini, Nakamura, Oliveira, Romero, Takahashi""",
)

PLACES = Pool.of(
  """Athens, Austin, Bangkok, Belgrade, Bergen, Berlin, Bogota, Bologna, Boston,
  Bremen, Bristol, Cairo, Cape Town, Chicago, Cologne, Copenhagen, Cork, Dakar,
  Dallas, Denver, Dresden, Dublin, Florence, Geneva, Genoa, Ghent, Glasgow, Graz,
  Hamburg, Hanoi, Havana, Istanbul, Jakarta, Kyoto, Leeds, Leipzig, Lima, Lisbon,
  London, Lyon, Madrid, Malmo, Marseille, Melbourne, Milan, Montreal, Munich,
  Nairobi, Naples, Nice, Osaka, Oslo, Ottawa, Palermo, Paris, Porto, Prague, Quito,
  Riga, Rome, Rotterdam, Santiago, Seoul, Seville, Sofia, Split, Stockholm, Sydney,
  Tallinn, Tampa, Tokyo, Toronto, Turin, Utrecht, Vienna, Vilnius, Warsaw, Zagreb,
  Zurich""",
  """Aarhus, Bilbao, Casablanca, Delhi, Edinburgh, Granada, Helsinki, Krakow,
  Manila, Nantes, Odense, Perth, Reykjavik, Salzburg, Tunis, Valencia""",
)

COMPANY_STEMS = Pool.of(
  """Acorn, Alpina, Arden, Aster, Bluefin, Boreal, Brightwater, Cardinal, Cedar,
  Comet, Coral, Cresta, Delmar, Elmwood, Ember, Everline, Falcon, Fairmont,
  Fjordland, Garnet, Goldleaf, Greenfield, Halden, Harbour, Horizon, Ironbridge,
  Juniper, Kestrel, Lakeside, Larkin, Lunaria, Maple, Meridian, Mistral, Norden,
  Oakridge, Orchid, Orion, Pinecrest, Polaris, Quarry, Redwood, Riverton, Sable,
  Silverline, Solara, Sterling, Summit, Tamarind, Terrano, Umbra, Vantage, Verdant,
  Westbrook, Willow, Zephyr""",
  """Amberley, Birchwood, Cobalt, Driftwood, Elkhorn, Foxglove, Granite, Hazelton,
  Ivory, Larch, Moonstone, Northgate""",
)

COMPANY_KINDS = (
  "Airlines",
  "Bank",
  "Energy",
  "Foods",
  "Hotels",
  "Labs",
  "Media",
  "Motors",
  "Software",
  "Steel",
)

PRODUCT_STEMS = Pool.of(
  """Aero, Alto, Aria, Bolt, Breeze, Carbo, Cirro, Claro, Delta, Dyno, Echo, Envo,
  Flexi, Fluxa, Forma, Glide, Helio, Hydra, Junia, Kappa, Kinetic, Lumo, Magna,
  Maxi, Mira, Nexa, Nova, Octa, Omni, Opti, Pixo, Prima, Pulse, Quanta, Rapid,
  Sigma, Sono, Sprint, Strato, Tempo, Terra, Titan, Trio, Turbo, Ultra, Vela, Vista,
  Vivo, Xeno, Zenit""",
  "Boost, Cresto, Ferro, Galaxo, Iona, Lyra, Monza, Pico, Rondo, Sirio, Tonic, Vertex",
)

PRODUCT_KINDS = (
  "bike",
  "camera",
  "drill",
  "mixer",
  "phone",
  "printer",
  "scooter",
  "tablet",
  "vacuum",
  "watch",
)
